#!/bin/bash
{{directives}}

# Lines that a site needs stand here: module load, conda activate.

{{environment}}
cd {{folder}}
# exec, so that SLURM's signals reach picker itself.
exec {{command}}
