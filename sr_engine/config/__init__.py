"""Floor 1: the configuration of a run as plain, validated data.

schema      what a configuration holds, with defaults and meanings
load        file (+ overrides) -> Config with every problem reported at once; Config -> text
registry    names of networks, losses, data sets, ... : the `type` of an entry
arguments   signature of what is registered -> checks of the other keys of that entry
yaml12      YAML 1.2 text -> values and the line of each
overrides   key.path=value of the command line
plugins     Python files that register more names
rules       what no single key can tell: keys that contradict each other
problems    validation errors -> `file:line: path: expected X, got Y (did you mean 'z'?)`
changes     what differs between two configurations
editor      JSON schema for editors
reference   the page docs/configuration.md
"""
