"""MLflow as a view that is rebuilt from files: DVC owns the bytes, MLflow shows and compares them.

`live` shows a training while it goes on, `sync` brings MLflow to what the files say. mlflow is
imported in functions: a machine without it trains as well.
"""
