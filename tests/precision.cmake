# Mixed precision: the graph, the plan.
rg_test(precision SEES rg_spec rg_passes TIMEOUT 120)
rg_test(precision_plan SEES rg_driver TIMEOUT 120)
