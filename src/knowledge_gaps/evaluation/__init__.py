"""What is measured on images by trained networks.

Samples, detection and quality as in the paper's tables; `registry` and `extractors` are the feature
extractors. The names of what is measured are in `knowledge_gaps.statistics.measures`.
"""
