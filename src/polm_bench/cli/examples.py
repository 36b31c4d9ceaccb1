"""What to type: examples of every command, which its help shows; the empty name is the program's own."""

from __future__ import annotations

EXAMPLES = {
    "": """
  polm-bench ls recipes
  polm-bench plan +recipe=dpo
  polm-bench run +recipe=dpo
  polm-bench run -m +recipe=dpo,simpo seed=0,1,2""",
    "run": """
  polm-bench run +recipe=dpo
  polm-bench run +recipe=simpo recipe.loss.beta=2.0 budget=smoke
  polm-bench run +recipe=dpo model=smollm2_135m data=reviews suite=reviews budget=small
  polm-bench run -m +recipe=dpo,simpo seed=0,1,2       the matrix
  polm-bench run -m +recipe=dpo,simpo seed=0,1,2 launch=joblib     its cells beside each other; also launch=slurm, launch=ray
  polm-bench run -m '+recipe=glob(*,exclude=_*)'       every recipe
  polm-bench run +recipe=dpo --cfg job                 only print the configuration""",
    "plan": """
  polm-bench plan +recipe=dpo
  polm-bench plan -m +recipe=dpo,simpo seed=0,1,2      the matrix: what its cells share, what is missing, how long it may take
  polm-bench plan +recipe=dpo model=smollm2_135m --json""",
    "tune": """
  polm-bench tune +recipe=dpo tune.trials=8
  polm-bench tune +recipe=lora tune.trials=16 tune.sampler=random seed=1""",
    "ls": """
  polm-bench ls
  polm-bench ls recipes
  polm-bench ls records --records results/five_paradigms/records
  polm-bench ls recipes --format md""",
    "show": """
  polm-bench show dpo                 a recipe: paper, graph, numbers and where they come from
  polm-bench show dpo-nano-nano       a record, by its id or the beginning of it""",
    "table": """
  polm-bench table five_paradigms
  polm-bench table overview --run --save --jobs 2      runs the missing cells, writes results/overview/
  polm-bench table overview --run --launch slurm launch.partition=gpu launch.gpus=1
  polm-bench table overview --format csv --records /some/records
  polm-bench table peft_metamath --against published   a publication's figures beside ours
  polm-bench table overview --against mine.yaml        your own figures of this table's cells
  polm-bench table overview --at tokens=100000         the same records at equal cost""",
    "report": """
  polm-bench report five_paradigms --open
  polm-bench report overview --out overview.html --records /some/records
  polm-bench report overview --track          an artifact in MLflow, too""",
    "compare": """
  polm-bench compare dpo-nano simpo-nano
  polm-bench compare dpo-nano-nano-nano-nano-s0 simpo-nano-nano-nano-nano-s0 --records results/five_paradigms/records
  polm-bench compare dpo-nano simpo-nano --items 20    more of the items that changed
  polm-bench compare dpo-nano simpo-nano --all         every setting, score and part of the environment""",
    "advise": """
  polm-bench advise --needs preference --memory 8GB --hours 2 --keep retention=-0.01
  polm-bench advise --needs peft --by nano_arithmetic --served 10MB
  polm-bench advise --needs alignment --keep nano_facts=-0.15 --json --records results/five_paradigms/records""",
    "power": """
  polm-bench power --effect 0.02
  polm-bench power --effect 0.02 --power 0.9 --records results/five_paradigms/records""",
    "variance": """
  polm-bench run -m +recipe=dpo seed=0,1,2
  polm-bench run -m +recipe=dpo seed=0,1,2 suite.seed=1,2     the same models, asked twice more
  polm-bench variance dpo
  polm-bench variance --records results/five_paradigms/records --format csv""",
    "ui": """
  polm-bench ui
  polm-bench ui --port 5001""",
    "doctor": """
  polm-bench doctor
  polm-bench doctor --json""",
    "status": """
  polm-bench status                   while others run, too
  watch -n 5 polm-bench status""",
    "verify": """
  polm-bench verify""",
    "gc": """
  polm-bench gc
  polm-bench gc --yes --json""",
    "drill": """
  polm-bench drill kill --times 50
  polm-bench drill crowd --processes 8
  polm-bench drill disk
  polm-bench drill mlflow""",
    "bench": """
  polm-bench bench preference
  polm-bench bench preference --models nano --lengths reviews --rounds 5 --json
  polm-bench bench preference --sides ours ours_separate trl trl_precomputed""",
    "track": """
  polm-bench track replay             after a database was lost, or a server was down""",
    "completion": """
  eval "$(polm-bench completion bash)"        in ~/.bashrc
  eval "$(polm-bench completion zsh)"         in ~/.zshrc, after compinit
  polm-bench completion fish | source         in config.fish""",
}
