"""The bundled OCR checkpoint."""
