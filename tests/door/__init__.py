"""The doors alone, with a stand-in behind them."""
