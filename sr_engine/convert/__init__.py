"""Floor 2: option files of other frameworks, translated into a configuration of this one.

translation  rows of the table, and the configuration that grows beside them
rules        what a table of keys can say about a key: To, Same, Is, Off, No
values       checks of single values
convert      file -> dialect -> translation
dialects     basicsr, trainner (traiNNer-redux and Phhofm's fork), neosr: a table of keys and a list of steps each
data         pictures, patches and batches
degradation  the real-world degradation
networks     generators: community architectures by the arguments of their class in spandrel
variants     the named sizes of architectures
discriminators, losses, perceptual, adversarial, schedules: what is optimised
optimisers   optimisers and learning rates
page         the table and the commented YAML file as text

Plain data: neither torch nor spandrel is imported.
"""
