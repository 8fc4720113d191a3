#include <lauxlib.h>
#include <string.h>

#include "rg_spec_build.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { CHANNELS_MOST = 4, EPOCHS_MOST = 1000000 };

/* Starts reading `data { ... }` or `train { ... }`: a table, once. */
static bool start(lua_State *state, const char *what, rg_loc *declared, rg_options *o) {
    rg_builder *b = rg_builder_of(state);
    *o = (rg_options){.b = b, .index = 1, .what = what, .place = rg_builder_place(b)};
    if (declared->line > 0) {
        rg_builder_error(b, RG_E_SPEC, &o->place, "%s: declared already in line %d", what,
                         declared->line);
        return false;
    }
    *declared = o->place.loc;
    if (lua_type(state, 1) == LUA_TTABLE) return true;
    rg_builder_error(b, RG_E_SPEC, &o->place, "%s: expected a table, found %s", what,
                     rg_spec_describe(b, 1));
    return false;
}

/* ---- data ---- */

static int declare_data(lua_State *state) {
    static const char *const names[] = {"dataset", "height", "width", "channels",
                                        "classes", "mean",   "std"};
    static const char *const sets[] = {"cifar10", "synthetic"};
    static const int32_t channels = 3, classes = 10;
    rg_builder *b = rg_builder_of(state);
    rg_spec *spec = b->spec;
    rg_options o;
    if (!start(state, "data", &b->data_loc, &o)) return 0;
    rg_options_check_names(&o, names, COUNT(names));
    bool names_bad = o.bad;
    o.bad = false;
    spec->dataset = rg_options_text(&o, "dataset", NULL, sets, COUNT(sets));
    spec->height = rg_options_int(&o, "height", NULL, 1, RG_SPEC_DIM);
    spec->width = rg_options_int(&o, "width", NULL, 1, RG_SPEC_DIM);
    spec->channels = rg_options_int(&o, "channels", &channels, 1, CHANNELS_MOST);
    spec->classes = rg_options_int(&o, "classes", &classes, 2, RG_SPEC_DIM);
    b->image_known = !o.bad;
    rg_options_reals(&o, "mean", 0, -1e6, 1e6, spec->channels, spec->mean);
    rg_options_reals(&o, "std", 1, 1e-6, 1e6, spec->channels, spec->std);
    bool cifar = strcmp(spec->dataset, "cifar10") == 0;
    if (!o.bad && !names_bad && cifar && (spec->channels != 3 || spec->classes != 10))
        rg_builder_error(b, RG_E_SPEC, &o.place,
                         "data: cifar10 has 3 channels and 10 classes, found %d and %d",
                         spec->channels, spec->classes);
    return 0;
}

/* ---- train ---- */

static void defaults(rg_spec *spec) {
    spec->batch = 64;
    spec->eval_batch = 64;
    spec->epochs = 20;
    spec->seed = 1;
    spec->optim =
        (rg_optim){.kind = RG_OPTIM_ADAM, .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
}

static void read_adam(rg_options *o, rg_optim *optim) {
    static const double eps = 1e-8;
    static const char *const foreign[] = {"momentum", "nesterov"};
    double betas[2] = {0.9, 0.999};
    if (rg_options_has(o, "betas")) rg_options_reals(o, "betas", 0.9, 0, 1 - 1e-9, 2, betas);
    optim->kind = RG_OPTIM_ADAM;
    optim->beta1 = betas[0];
    optim->beta2 = betas[1];
    optim->eps = rg_options_real(o, "eps", &eps, 0, 1);
    for (size_t i = 0; i < COUNT(foreign); i++)
        if (rg_options_has(o, foreign[i]))
            rg_builder_error(o->b, RG_E_SPEC, &o->place, "train: option '%s' is sgd's, not adam's",
                             foreign[i]);
}

static void read_sgd(rg_options *o, rg_optim *optim) {
    static const double momentum = 0;
    static const char *const foreign[] = {"betas", "eps"};
    optim->kind = RG_OPTIM_SGD;
    optim->beta1 = optim->beta2 = optim->eps = 0;
    optim->momentum = rg_options_real(o, "momentum", &momentum, 0, 1);
    optim->nesterov = rg_options_bool(o, "nesterov", false);
    for (size_t i = 0; i < COUNT(foreign); i++)
        if (rg_options_has(o, foreign[i]))
            rg_builder_error(o->b, RG_E_SPEC, &o->place, "train: option '%s' is adam's, not sgd's",
                             foreign[i]);
    if (optim->nesterov && optim->momentum == 0 && !o->bad)
        rg_builder_error(o->b, RG_E_SPEC, &o->place,
                         "train: option 'nesterov' needs a momentum above 0");
}

static int declare_train(lua_State *state) {
    static const char *const names[] = {
        "batch", "eval_batch", "epochs",   "seed",     "optimizer",    "lr",
        "betas", "eps",        "momentum", "nesterov", "weight_decay", "label_smoothing"};
    static const char *const kinds[] = {"adam", "sgd"};
    static const int32_t batch = 64, epochs = 20, seed = 1;
    static const double lr = 1e-3, none = 0;
    rg_builder *b = rg_builder_of(state);
    rg_spec *spec = b->spec;
    rg_options o;
    if (!start(state, "train", &b->train_loc, &o)) return 0;
    rg_options_check_names(&o, names, COUNT(names));
    spec->batch = rg_options_int(&o, "batch", &batch, 1, RG_SPEC_DIM);
    spec->eval_batch = rg_options_int(&o, "eval_batch", &spec->batch, 1, RG_SPEC_DIM);
    spec->epochs = rg_options_int(&o, "epochs", &epochs, 1, EPOCHS_MOST);
    spec->seed = (uint64_t)rg_options_int(&o, "seed", &seed, 0, INT32_MAX);
    spec->optim.lr = rg_options_real(&o, "lr", &lr, 0, 1e6);
    spec->optim.weight_decay = rg_options_real(&o, "weight_decay", &none, 0, 1e6);
    b->smoothing = rg_options_real(&o, "label_smoothing", &none, 0, 1);
    if (strcmp(rg_options_text(&o, "optimizer", "adam", kinds, COUNT(kinds)), "adam") == 0)
        read_adam(&o, &spec->optim);
    else
        read_sgd(&o, &spec->optim);
    return 0;
}

void rg_spec_setup_open(rg_builder *b) {
    lua_State *state = rg_lua_state(b->lua);
    defaults(b->spec);
    lua_pushcfunction(state, declare_data);
    lua_setglobal(state, "data");
    lua_pushcfunction(state, declare_train);
    lua_setglobal(state, "train");
}
