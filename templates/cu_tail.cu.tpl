% -- Last in a kernel: its tails, if it has any.
% if L.cu_has_tails(k) then
if (rg_last_block(a${k.counter_arg})) {
% for i = 0, k.tail_count - 1 do
    ${L.cu_tail_lines(k, i)}
% end
}
% end
