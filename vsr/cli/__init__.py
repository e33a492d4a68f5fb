"""The command line: one file per command, and nothing heavy imported before it is needed.

main        entry point: signals and exit codes
door        the one place where errors become a line and a code
group       the group of commands, each imported when it is named
base        how a command looks: sections in its help, `-v` and `-q`
values      what the texts of options mean: sizes, times, `key=value`
options     every option of `upscale` and `info`, section by section
settings    from parsed options to an `UpscaleJob`
naming      which files go in and what their outputs are called
progress    bar, lines, JSON
upscale info models devices completion      the commands
console signals versions tables download    small helpers
"""
