# The build graph: executed notebooks -> book. `make book` calls it.

import sys

sys.path.insert(0, workflow.basedir)
from book.sources import pages, sources

SOURCE = "_build/source"
PAGES = pages()
NOTEBOOKS = [Path(page).name for page in PAGES if page.startswith("notebooks/")]
PROSE = [f"{page}.md" for page in PAGES if page.startswith("book/")]
READMES = ["jiadf/pretrained/README.md", "jiadf/data/sample/README.md"]  # shown as cards
RECORDS = [str(path) for path in Path("book/results").rglob("*") if path.is_file()]
MODEL = [str(path) for path in Path("jiadf/pretrained").iterdir() if path.is_file()]


rule book:
    default_target: True
    input:
        notebooks=expand(f"{SOURCE}/notebooks/{{name}}.ipynb", name=NOTEBOOKS),
        prose=PROSE,
        readmes=READMES,
        settings=["_config.yml", "_toc.yml", "book/references.bib", "CITATION.cff"],
        tools=["book/finish.py", "book/tables.py"],
        static=[str(path) for path in Path("book/_static").glob("*")],
        gallery="_build/gallery/index.html",
    output:
        "_build/html/index.html",
    log:
        "_build/logs/book.log",
    shell:
        """
        python book/sources.py {SOURCE}
        mkdir -p {SOURCE}/book
        cp _config.yml _toc.yml {SOURCE}/
        cp -r book/_static {input.prose} book/references.bib {SOURCE}/book/
        cp --parents {input.readmes} {SOURCE}/
        {{ jupyter-book clean --html {SOURCE} >/dev/null 2>&1 || true; }}
        jupyter-book build --all -W -n --keep-going --path-output . {SOURCE} > {log} 2>&1 \
            || {{ cat {log}; exit 1; }}
        cp -r _build/gallery _build/html/
        """


rule gallery:
    input:
        sources("jiadf.explanation.explain", "jiadf.explanation.card_folder"),
        "book/gallery.py",
        MODEL,
    output:
        "_build/gallery/index.html",
    log:
        "_build/logs/gallery.log",
    shell:
        """
        python -m book.gallery --out _build/gallery > {log} 2>&1 || {{ cat {log}; exit 1; }}
        """


rule notebook:
    input:
        lambda wildcards: sources(f"notebooks/{wildcards.name}.ipynb"),
        "book/execute.py",
        "book/slider.html",
        RECORDS,
        MODEL,
        notebook="notebooks/{name}.ipynb",
    output:
        f"{SOURCE}/notebooks/{{name}}.ipynb",
    log:
        "_build/logs/{name}.log",
    shell:
        """
        python book/execute.py {input.notebook} --out {SOURCE}/notebooks > {log} 2>&1 \
            || {{ cat {log}; exit 1; }}
        """
