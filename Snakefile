# The build graph: synthetic data -> runs -> executed notebooks -> book. `make book` calls it;
# book/how_to_run.md says how to run it on a cluster, and a grid of runs on MILK10k.

import re
import sys

sys.path.insert(0, workflow.basedir)
from book.sources import notebook_code, sources

NOTEBOOKS = [Path(p).stem for p in sorted(glob_wildcards("notebooks/{name,[0-9][^/]*}.ipynb").name)]
PAGES = [p for p in Path("book").glob("*.md")]
CARDS = [p.name for p in sorted(Path("book/cards").glob("*.md"))]  # their figures come from the records
RESULTS = [str(p) for p in Path("book/results").rglob("*") if p.is_file()]
DATA, RUN, SOURCE = "_build/synthetic", "_build/runs/ji-adf", "_build/source"
PARAMS = "params/synthetic.yaml"


rule book:
    default_target: True
    input:
        notebooks=expand(f"{SOURCE}/notebooks/{{name}}.ipynb", name=NOTEBOOKS),
        status=f"{SOURCE}/book/status.md",
        cards=expand(f"{SOURCE}/book/{{card}}", card=CARDS),
        pages=[str(p) for p in PAGES],
        settings=["_config.yml", "_toc.yml", "book/references.bib"],
        static=[str(p) for p in Path("book/_static").glob("*")],
        results=RESULTS,
    output:
        "_build/html/index.html",
    log:
        "_build/logs/book.log",
    shell:
        """
        mkdir -p {SOURCE}/book
        cp _config.yml _toc.yml {SOURCE}/
        cp -r book/_static {input.pages} book/references.bib {SOURCE}/book/
        {{ jupyter-book clean --html {SOURCE} >/dev/null 2>&1 || true; }}
        jupyter-book build --all -W -n --keep-going --path-output . {SOURCE} > {log} 2>&1 \
            || {{ cat {log}; exit 1; }}
        """


rule synthetic:
    input:
        sources("jiadf.data.synth"),
    output:
        f"{DATA}/MILK10k_Training_GroundTruth.csv",
    shell:
        "jiadf synth {DATA} --lesions 300 --seed 0 --width 320"


rule train:
    input:
        sources("jiadf.training.trainer"),
        data=rules.synthetic.output,
        params=PARAMS,
    output:
        [f"{RUN}/{name}" for name in ("config.yaml", "predictions.csv", "metrics.json")],
    log:
        "_build/logs/train.log",
    shell:
        "jiadf train --quiet --data {DATA} --run {RUN} --params {input.params} > {log} 2>&1"
        " || {{ cat {log}; exit 1; }}"


# The grids of the book's pages: many short runs, so one process makes all of a grid.
rule synthetic_grid:
    input:
        sources("jiadf.training.grid"),
        PARAMS,
        "params/grids/paper.yaml",  # these name the systems of the synthetic ones
        "params/grids/trust.yaml",
        "params/grids/table1.yaml",
        "params/grids/gate.yaml",
        data=rules.synthetic.output,
        grid="params/grids/{grid}.yaml",
    output:
        directory("_build/grids/{grid}"),
    log:
        "_build/logs/grid_{grid}.log",
    shell:
        "jiadf grid {input.grid} --data {DATA} --runs {output} > {log} 2>&1"
        " || {{ cat {log}; exit 1; }}"


# A grid of your own data, a system a job; `jiadf grid` repeats no finished run. Not part of the book:
#   snakemake --cores 2 --keep-going grid --config grid=FILE data=DIR runs=DIR
if "grid" in config:
    from jiadf.training.grid import load_grid  # torch: too slow to import where it is not needed

    SYSTEMS = {name.replace(" ", "_"): name for name in load_grid(config["grid"]).overrides()}
    RUNS = config.get("runs", f"runs/{Path(config['grid']).stem}")

    rule grid:
        input:
            expand("{runs}/{folder}/.done", runs=RUNS, folder=SYSTEMS),

    rule grid_system:
        input:
            config["grid"],
        output:
            touch(f"{RUNS}/{{folder}}/.done"),
        params:
            system=lambda wildcards: SYSTEMS[wildcards.folder],
        shell:
            "jiadf grid {input:q} --data {config[data]:q} --runs {RUNS:q} --system {params.system:q}"


def package_files(wildcards):
    return sources(f"notebooks/{wildcards.name}.ipynb")


def grid_of(wildcards):
    """Name the grid that a page reads, from its `grid = "params/grids/NAME.yaml"`; or None."""
    code = notebook_code(Path(f"notebooks/{wildcards.name}.ipynb"))
    found = re.search(r'^grid = "params/grids/(\w+)\.yaml"', code, re.MULTILINE)
    return found and found[1]


def on_drawings(wildcards):
    """Whether a page is still one of the drawn lesions; the others bring their real ones."""
    return "jiadf/data/embedded.py" in package_files(wildcards)


def runs(wildcards):
    if not on_drawings(wildcards):
        return []
    grid = grid_of(wildcards)
    return f"_build/grids/{grid}" if grid else rules.train.output


def settings(wildcards):
    """Give a page its parameters; those of a page with a grid, or with real lesions, stand in it."""
    if not on_drawings(wildcards):
        return ""
    grid = grid_of(wildcards)
    own = f"--offer runs_dir=_build/grids/{grid}" if grid else f"--params {PARAMS} --offer run_dir={RUN}"
    return f"--offer data_dir={DATA} {own}"


rule notebook:
    input:
        package_files,
        runs,
        "book/execute.py",
        PARAMS,
        RESULTS,
        notebook="notebooks/{name}.ipynb",
    output:
        f"{SOURCE}/notebooks/{{name}}.ipynb",
    params:
        settings=settings,
    log:
        "_build/logs/{name}.log",
    shell:
        """
        python book/execute.py {input.notebook} --out {SOURCE}/notebooks {params.settings} \
            > {log} 2>&1 || {{ cat {log}; exit 1; }}
        """


rule status:
    input:
        rules.book.input.notebooks,
        "book/build_status.py",
    output:
        f"{SOURCE}/book/status.md",
    shell:
        "python book/build_status.py --notebooks {SOURCE}/notebooks --out {output}"


rule cards:
    input:
        sources("jiadf.results"),
        RESULTS,
        "book/build_cards.py",
        expand("book/cards/{card}", card=CARDS),
    output:
        expand(f"{SOURCE}/book/{{card}}", card=CARDS),
    shell:
        "python book/build_cards.py --out {SOURCE}/book"
