"""Turn bytes into chunks: sans-IO decoders that know no network, no clock and no SDK."""
