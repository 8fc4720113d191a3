#include "rg_fuse_reach.h"

static const char *const site_name[] = {
    [RG_SITE_INLINE] = "inlined",    [RG_SITE_ANCHOR] = "anchor", [RG_SITE_EPILOGUE] = "epilogue",
    [RG_SITE_PROLOGUE] = "prologue", [RG_SITE_MAP] = "map",       [RG_SITE_VEC] = "channel",
};

static const rg_node *def_of(const rg_graph *graph, rg_vid v) {
    rg_nid n = graph->value[v].def;
    return n < 0 ? NULL : &graph->node[n];
}

void rg_fuse_value_name(rg_text *text, const rg_graph *graph, rg_vid v) {
    const rg_value *value = &graph->value[v];
    const rg_node *node = def_of(graph, v);
    if (!node) {
        rg_text_add(text, "%s", value->name ? value->name : "?");
        return;
    }
    bool anchor = node->op != RG_OP_POINTWISE && node->op != RG_OP_REDUCE;
    rg_text_add(text, "%%%d %s%s%s", v, anchor ? rg_op_name(node->op) : "", anchor ? " " : "",
                node->name ? node->name : "");
}

static void group_name(rg_text *text, const rg_fusion *fu, int32_t g) {
    const rg_group *group = &fu->group[g];
    static const char *const kind[] = {"conv", "wgrad", "window", "map", "channel", "pack"};
    const rg_node *node =
        group->anchor >= 0 ? &fu->graph->node[group->anchor] : def_of(fu->graph, group->item[0]);
    const char *what = group->anchor >= 0 ? rg_op_name(node->op) : kind[group->kind];
    rg_text_add(text, "group %d (%s %s)", g, what, node->name ? node->name : "");
}

static void dump_rider(rg_text *text, const rg_fusion *fu, const rg_node *rider) {
    rg_text_add(text, "    rider    ");
    rg_fuse_value_name(text, fu->graph, rider->out[0]);
    rg_text_add(text, "%s\n", fu->home[rider->out[0]].demanded ? "  -> memory" : "");
}

void rg_fuse_dump(rg_text *text, const rg_fusion *fu) {
    for (int32_t g = 0; g < fu->group_count; g++) {
        const rg_group *group = &fu->group[g];
        group_name(text, fu, g);
        rg_text_add(text, "\n");
        if (group->rider >= 0) dump_rider(text, fu, &fu->graph->node[group->rider]);
        for (int32_t i = 0; i < group->count; i++) {
            rg_vid v = group->item[i];
            const rg_home *home = &fu->home[v];
            bool sum = home->part == g && home->group != g;
            rg_text_add(text, "    %-9s", sum ? "part sums" : site_name[home->site]);
            rg_fuse_value_name(text, fu->graph, v);
            rg_text_add(text, "%s\n", sum || !home->demanded ? "" : "  -> memory");
        }
    }
}

static bool stand_alone(const rg_fusion *fu, rg_vid v) {
    return fu->home[v].site == RG_SITE_MAP && !rg_type_is_channel(fu->graph->value[v].type);
}

static void explain_home(rg_text *text, const rg_fusion *fu, rg_vid v) {
    const rg_home *home = &fu->home[v];
    if (home->group >= 0) {
        rg_text_add(text, "%s of ",
                    home->site == RG_SITE_ANCHOR ? "result" : site_name[home->site]);
        group_name(text, fu, home->group);
        if (home->part >= 0 && home->part != home->group) {
            rg_text_add(text, ", partial sums in ");
            group_name(text, fu, home->part);
        }
    } else {
        rg_text_add(text, "inlined");
    }
}

/* Readers of v that read it together with another one. */
static int32_t riders_of(const rg_fusion *fu, rg_vid v) {
    int32_t count = 0;
    for (int32_t i = 0; i < fu->user_count[v]; i++) count += rg_fuse_is_rider(fu, fu->user[v][i]);
    return count;
}

void rg_fuse_explain(rg_text *text, const rg_fusion *fu, int32_t n) {
    double saved = 0;
    for (rg_vid v = 0; v < fu->graph->value_count; v++) {
        const rg_node *node = def_of(fu->graph, v);
        if (!node || fu->user_count[v] + fu->is_result[v] == 0) continue;
        const rg_home *home = &fu->home[v];
        double size = rg_type_is_channel(fu->graph->value[v].type) ||
                              fu->graph->value[v].type.cls == RG_T_WEIGHT
                          ? 0
                          : (double)rg_ktype_bytes(fu->type[v]) *
                                (double)rg_type_elements(fu->graph->value[v].type) * n;
        /* unfused, each value is written once and read by each user */
        double gain = size * (home->demanded ? riders_of(fu, v) : 1 + fu->user_count[v]);
        saved += gain;
        if (node->loc.file) rg_text_add(text, "%s:%d: ", node->loc.file, node->loc.line);
        rg_fuse_value_name(text, fu->graph, v);
        rg_text_add(text, ": ");
        explain_home(text, fu, v);
        rg_text_add(text, "; %s", home->why ? home->why : "");
        if (home->store_cost > 0)
            rg_text_add(text, " (stored %.2f MB, recomputed %.2f MB)", home->store_cost * n / 1e6,
                        home->inline_cost * n / 1e6);
        if (stand_alone(fu, v) && size > 0)
            rg_text_add(text, "; not fused: no convolution or window can carry it");
        if (gain > 0) rg_text_add(text, "; saves %.2f MB", gain / 1e6);
        rg_text_add(text, "\n");
    }
    rg_text_add(text, "all together: %.1f MB of memory traffic saved a batch of %d\n", saved / 1e6,
                n);
}
