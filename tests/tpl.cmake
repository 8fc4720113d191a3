rg_test(tpl SEES rg_tpl TIMEOUT 60)
rg_test(emit SEES rg_emit TIMEOUT 60)
