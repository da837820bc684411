"""Check implementations of streamcore's protocols against their contracts: pytest suites to subclass."""
