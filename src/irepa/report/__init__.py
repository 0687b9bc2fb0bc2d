"""The report's parts as Markdown: the notebook ``reports/report.py`` says which are shown, and in which order.

``tier`` opens a finished tier; ``markdown`` has tables, lists and folds; ``verdicts``, ``recipes``, ``discrepancies``,
``figures``, ``runs`` and ``methods`` each write the parts of one section; ``cost`` sums what the jobs took.
"""
