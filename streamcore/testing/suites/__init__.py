"""Hold implementations of streamcore's protocols to their contracts: pytest suites to subclass."""
