rg_test(lua SEES rg_lua)
rg_test(spec SEES rg_spec)
rg_test(spec_errors SEES rg_spec)
