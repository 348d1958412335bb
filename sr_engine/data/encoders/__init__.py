"""Writers of one format each: rows in, a file out. `sr_engine.data.rows` chooses among them."""
