"""The reference of params.yaml, written from the types that read it: `kgaps settings describe`.

`meanings` takes what a key means from its class's docstring, `values` puts its type and range into
words, `page` puts both into tables. Nothing here reads a study or writes a file.
"""
