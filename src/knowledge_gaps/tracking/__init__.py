"""MLflow as a view that is rebuilt from files: DVC owns the bytes, MLflow shows and compares them.

mlflow is imported in functions: a machine without it trains as well.
"""
