"""Play what goes wrong between a vendor and a reader, byte for byte."""
