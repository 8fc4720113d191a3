rg_test(expr SEES rg_kernel)
rg_test(graph SEES rg_ir)
rg_test(ops SEES rg_ops)
rg_test(op_grad SEES rg_ops)
