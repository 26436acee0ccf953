/* cli.h - the command line: one table of nouns, one file per noun. `serve` is main.c's own. */
#pragma once

int cli_main(int argc, char **argv);    /* returns the exit status: 0 done, 1 refused, 2 usage */
