"""Reports: metrics, figures and the PDF."""
