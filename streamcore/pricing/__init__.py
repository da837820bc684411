"""What answers cost: prices from `genai-prices` or of your own, sums, limits, and tokens counted before a request.

Nothing here is imported unless a cost, a limit or a count is asked for. Computing needs the extra `cost`, or prices of
your own; what a gateway reports needs neither.
"""

from streamcore.cost import Cost
from streamcore.pricing.answers import CostSum, answer_usage, cost_of, readable
from streamcore.pricing.loading import load_prices
from streamcore.pricing.price_list import Prices, use_prices
from streamcore.pricing.sums import CostSums

__all__ = ["Cost", "CostSum", "CostSums", "Prices", "answer_usage", "cost_of", "load_prices", "readable", "use_prices"]
