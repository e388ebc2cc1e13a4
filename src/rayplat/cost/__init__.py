"""What the cluster costs: the meter, the ledger, budgets that stop, forecasts and savings."""
