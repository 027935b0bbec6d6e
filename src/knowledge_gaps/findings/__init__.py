"""The paper's findings as hypotheses with thresholds fixed beforehand, and their verdicts."""
