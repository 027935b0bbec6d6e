"""The study: params.yaml as typed objects. `recipes` and `schema` have the types, `graph` checks
references, `load` reads the file. No torch, so that reading a study costs milliseconds.
"""
