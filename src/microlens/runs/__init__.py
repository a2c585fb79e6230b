"""Building, training, tuning and opening runs, and recommending with them."""
