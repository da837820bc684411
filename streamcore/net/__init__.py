"""Send requests and read raw responses: shared SDK clients, transports, HTTP errors, Redis."""
