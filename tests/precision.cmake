# Mixed precision: the graph, the plan, f16's loss scale.
rg_test(precision SEES rg_spec rg_passes TIMEOUT 120)
rg_test(precision_plan SEES rg_driver TIMEOUT 120)
rg_test(loss_scale SEES rg_driver TIMEOUT 120)

# Fusion: contractions that ride.
rg_test(fuse SEES rg_driver TIMEOUT 120)
