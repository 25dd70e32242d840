//! Examples of each command, shown in its help.

/// Two examples of each command, by its name.
pub(in crate::cli) const EXAMPLES: [(&str, [&str; 2]); 32] = [
    (
        "picker",
        [
            "picker pick micrographs/ --particle-radius 42",
            "picker run --particle-radius 42 --config picker.toml",
        ],
    ),
    (
        "preprocess",
        [
            "picker preprocess --particle-radius 42",
            "picker preprocess mics.star --model picker_run --particle-radius-a 90",
        ],
    ),
    (
        "train",
        [
            "picker train --particle-radius 42 --epochs 8",
            "picker train micrographs/ --coordinates picks/ --labels partial --particle-radius-a 90",
        ],
    ),
    (
        "self-train",
        [
            "picker self-train --iterations 3",
            "picker self-train --model default --micrographs new/ --particle-radius 42 --out new_run",
        ],
    ),
    (
        "pick",
        [
            "picker pick micrographs/ --particle-radius 42",
            "picker pick mics.star --model picker_run --threshold 0.5 --watch",
        ],
    ),
    ("merge", ["picker merge", "picker merge --out other_run"]),
    (
        "slurm",
        [
            "picker slurm submit --shards 50 --particle-radius 42 --partition cpu",
            "picker slurm submit --shards 50 --particle-radius 42 --dry-run",
        ],
    ),
    (
        "submit",
        [
            "picker slurm submit --shards 50 --particle-radius 42 --partition cpu --time 4:00:00",
            "picker slurm submit run2 --shards 400 --model run1 --array-throttle 50 -- --qos=low",
        ],
    ),
    (
        "run",
        [
            "picker run --particle-radius 42",
            "picker run micrographs/ --coordinates labels/ --epochs 8 --truth known/ --dry-run",
        ],
    ),
    ("status", ["picker status", "picker status --out picker_run --json"]),
    (
        "inspect",
        ["picker inspect", "picker inspect micrographs/ --out labels_run --port 8080 --no-open"],
    ),
    ("report", ["picker report", "picker report --out other_run"]),
    (
        "threshold",
        ["picker threshold --threshold 0.5", "picker threshold --threshold 0.6 --out other_run"],
    ),
    (
        "relion",
        [
            "picker relion --o External/job005/ --in_mics CtfFind/job003/micrographs_ctf.star \\\n      \
             --particle_diameter 180 --j 4",
            "picker relion --o External/job006/ --in_mics CtfFind/job003/micrographs_ctf.star \\\n      \
             --in_coords Select/job012/particles.star --labels partial",
        ],
    ),
    (
        "extract",
        [
            "picker extract -r 21 -o picks.txt micrographs/a.mrc",
            "picker extract -m picker_run -r 21 -t 0 -x 2 -o picks.txt small/a.mrc small/b.mrc",
        ],
    ),
    (
        "evaluate",
        [
            "picker evaluate --truth coordinates/",
            "picker evaluate --picks topaz.txt --truth known/ --particle-radius 42 --json",
        ],
    ),
    (
        "overlay",
        [
            "picker overlay micrographs/a.mrc",
            "picker overlay a.mrc --picks a.star --truth known/a.star --particle-radius 42 --out a.png",
        ],
    ),
    (
        "maps",
        [
            "picker maps micrographs/a.mrc --particle-radius 42",
            "picker maps micrographs/ --model picker_run --truth coordinates/",
        ],
    ),
    (
        "mask",
        [
            "picker mask micrographs/ --particle-radius 42",
            "picker mask mics.star --particle-radius-a 90 --max-masked 0.3 --out masks/",
        ],
    ),
    (
        "ablate",
        [
            "picker ablate --variants configs/ablation.toml --test c.mrc --particle-radius 42",
            "picker ablate --variants mine.toml --test test/ --seeds 1,2 --particle-radius-a 90",
        ],
    ),
    (
        "simulate",
        [
            "picker simulate --out set --count 6",
            "picker simulate --out set --count 20 --size 2048 --particle-radius-a 90 --snr 0.1",
        ],
    ),
    (
        "convert",
        [
            "picker convert picker_run/picks --to box --box-size 128 --out boxes/",
            "picker convert boxes/ --to star --micrographs micrographs/ --out all.star",
        ],
    ),
    (
        "check",
        [
            "picker check --particle-radius 42",
            "picker check --micrographs mics.star --coordinates picks/ --particle-radius-a 90",
        ],
    ),
    ("info", ["picker info micrographs/a.mrc", "picker info picks.star model.safetensors --json"]),
    ("model", ["picker model show", "picker model pack picker_run --out mine.safetensors"]),
    ("show", ["picker model show", "picker model show picker_run --json"]),
    (
        "pack",
        [
            "picker model pack picker_run --out mine.safetensors",
            "picker model pack picker_run --threshold 0.5 --out mine.safetensors",
        ],
    ),
    (
        "export",
        [
            "picker model export default --out weights.safetensors",
            "picker model export picker_run --out weights.safetensors --example one.safetensors",
        ],
    ),
    ("config", ["picker config > picker.toml", "picker config | less"]),
    (
        "completions",
        [
            "picker completions bash > ~/.local/share/bash-completion/completions/picker",
            "picker completions zsh > ~/.zfunc/_picker",
        ],
    ),
    ("man", ["picker man | man -l -", "picker man --out ~/.local/share/man/man1"]),
    ("doctor", ["picker doctor", "picker doctor --json"]),
];
