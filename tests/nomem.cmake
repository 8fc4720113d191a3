# Allocations that fail.
rg_test(nomem SEES rg_driver TIMEOUT 120)
