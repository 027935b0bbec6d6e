"""Drawing: one function a figure, from readings to matplotlib; `report.gallery` adds the words."""
