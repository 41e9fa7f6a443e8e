# The build graph: synthetic data -> run -> executed notebooks -> book. `make book` calls it;
# book/architecture.md says how to run it on a cluster.

import sys

sys.path.insert(0, workflow.basedir)
from book.sources import sources

NOTEBOOKS = [Path(p).stem for p in sorted(glob_wildcards("notebooks/{name,[0-9][^/]*}.ipynb").name)]
PAGES = [p for p in Path("book").glob("*.md")]
DATA, RUN, SOURCE = "_build/synthetic", "_build/runs/ji-adf", "_build/source"
PARAMS = "params/synthetic.yaml"


rule book:
    default_target: True
    input:
        notebooks=expand(f"{SOURCE}/notebooks/{{name}}.ipynb", name=NOTEBOOKS),
        status=f"{SOURCE}/book/status.md",
        pages=[str(p) for p in PAGES],
        settings=["_config.yml", "_toc.yml", "book/references.bib"],
        static=[str(p) for p in Path("book/_static").glob("*")],
        results=[str(p) for p in Path("book/results").rglob("*") if p.is_file()],
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
        sources("jiadf.train"),
        data=rules.synthetic.output,
        params=PARAMS,
    output:
        [f"{RUN}/{name}" for name in ("config.yaml", "predictions.csv", "metrics.json")],
    log:
        "_build/logs/train.log",
    shell:
        "jiadf train --quiet --data {DATA} --run {RUN} --params {input.params} > {log} 2>&1"
        " || {{ cat {log}; exit 1; }}"


def package_files(wildcards):
    return sources(f"notebooks/{wildcards.name}.ipynb")


rule notebook:
    input:
        package_files,
        rules.train.output,
        "book/execute.py",
        PARAMS,
        [str(p) for p in Path("book/results").rglob("*") if p.is_file()],
        notebook="notebooks/{name}.ipynb",
    output:
        f"{SOURCE}/notebooks/{{name}}.ipynb",
    log:
        "_build/logs/{name}.log",
    shell:
        """
        python book/execute.py {input.notebook} --out {SOURCE}/notebooks --params {PARAMS} \
            --offer data_dir={DATA} --offer run_dir={RUN} > {log} 2>&1 || {{ cat {log}; exit 1; }}
        """


rule status:
    input:
        rules.book.input.notebooks,
        "book/build_status.py",
    output:
        f"{SOURCE}/book/status.md",
    shell:
        "python book/build_status.py --notebooks {SOURCE}/notebooks --out {output}"
