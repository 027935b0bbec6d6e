"""How good generated images are: functions of features, which `table` puts together."""
