"""Reports: metrics, figures and the PDF that a reader is left with."""
