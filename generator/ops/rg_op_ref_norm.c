/* Batch norm and the loss in double, in closed form: what the passes take apart must give this
 * again. */
#include "rg_op_table.h"

#include <math.h>
#include <string.h>

/* ---- batch norm: statistics over the live images and all pixels ---- */

/* Rows of channels that count: live images x H x W; they stand first in the tensor. */
static size_t live_rows(const rg_ref *ref, const rg_tensor *x) {
    return (size_t)rg_tensor_live(x, ref->live) * (size_t)x->dim[1] * (size_t)x->dim[2];
}

static size_t all_rows(const rg_tensor *x) {
    return (size_t)x->dim[0] * (size_t)x->dim[1] * (size_t)x->dim[2];
}

/* Mean and sum of squared deviations of each channel, in two passes. */
static void moments(const double *x, size_t rows, size_t channels, double *mean, double *m2) {
    memset(mean, 0, channels * sizeof *mean);
    memset(m2, 0, channels * sizeof *m2);
    for (size_t i = 0; i < rows; i++) {
        for (size_t c = 0; c < channels; c++) mean[c] += x[i * channels + c];
    }
    for (size_t c = 0; c < channels; c++) mean[c] /= (double)rows;
    for (size_t i = 0; i < rows; i++) {
        for (size_t c = 0; c < channels; c++) {
            double off = x[i * channels + c] - mean[c];
            m2[c] += off * off;
        }
    }
}

/* y = (x - mean)*invstd*gamma + beta over all images. */
static void normalise(const rg_ref *ref, const double *mean, const double *invstd) {
    const rg_tensor *x = &ref->in[0];
    const double *gamma = ref->in[1].data, *beta = ref->in[2].data;
    size_t rows = all_rows(x), channels = (size_t)x->dim[3];
    for (size_t i = 0; i < rows; i++) {
        for (size_t c = 0; c < channels; c++) {
            size_t at = i * channels + c;
            ref->out[0].data[at] = (x->data[at] - mean[c]) * invstd[c] * gamma[c] + beta[c];
        }
    }
}

/* running_var takes the unbiased variance; of a single value there is none, and its 0 is kept. */
rg_status rg_ref_batch_norm(const rg_ref *ref) {
    const rg_tensor *x = &ref->in[0];
    const double *old_mean = ref->in[3].data, *old_var = ref->in[4].data;
    double *mean = ref->out[3].data, *invstd = ref->out[4].data;
    size_t rows = live_rows(ref, x), channels = (size_t)x->dim[3];
    double m = (double)rows, keep = 1.0 - ref->attr->momentum, take = ref->attr->momentum;
    moments(x->data, rows, channels, mean, invstd); /* invstd holds M2 for the moment */
    for (size_t c = 0; c < channels; c++) {
        double m2 = invstd[c];
        ref->out[1].data[c] = keep * old_mean[c] + take * mean[c];
        ref->out[2].data[c] = keep * old_var[c] + take * m2 / fmax(m - 1.0, 1.0);
        invstd[c] = 1.0 / sqrt(m2 / m + ref->attr->eps);
    }
    normalise(ref, mean, invstd);
    return RG_OK;
}

rg_status rg_ref_batch_norm_eval(const rg_ref *ref) {
    size_t channels = (size_t)ref->in[0].dim[3];
    double *invstd = RG_NEW_ARRAY(ref->scratch, double, channels);
    if (!invstd) return RG_E_NOMEM;
    for (size_t c = 0; c < channels; c++)
        invstd[c] = 1.0 / sqrt(ref->in[4].data[c] + ref->attr->eps);
    normalise(ref, ref->in[3].data, invstd);
    return RG_OK;
}

/* dbeta = sum dy, dgamma = sum dy*xhat, dx = gamma*invstd*(dy - dbeta/m - xhat*dgamma/m); m counts
 * live images. */
rg_status rg_ref_batch_norm_grad(const rg_ref *ref) {
    const double *dy = ref->in[0].data, *x = ref->in[1].data, *gamma = ref->in[2].data;
    const double *mean = ref->in[3].data, *invstd = ref->in[4].data;
    double *dx = ref->out[0].data, *dgamma = ref->out[1].data, *dbeta = ref->out[2].data;
    size_t channels = (size_t)ref->in[1].dim[3], rows = live_rows(ref, &ref->in[1]);
    double m = (double)rows;
    memset(dgamma, 0, channels * sizeof *dgamma);
    memset(dbeta, 0, channels * sizeof *dbeta);
    for (size_t at = 0; at < rows * channels; at++) {
        size_t c = at % channels;
        dbeta[c] += dy[at];
        dgamma[c] += dy[at] * (x[at] - mean[c]) * invstd[c];
    }
    for (size_t at = 0; at < all_rows(&ref->in[1]) * channels; at++) {
        size_t c = at % channels;
        double xhat = (x[at] - mean[c]) * invstd[c];
        dx[at] = gamma[c] * invstd[c] * (dy[at] - dbeta[c] / m - xhat * dgamma[c] / m);
    }
    return RG_OK;
}

/* ---- loss: mean cross-entropy of the live images, labels smoothed ---- */

/* The weight of class k in the target: 1 - smoothing on the label, and smoothing/K on all. */
static double target(const rg_ref *ref, int32_t classes, double label, int32_t k) {
    double smoothing = ref->attr->smoothing;
    return (k == label ? 1.0 - smoothing : 0.0) + smoothing / classes;
}

/* log(sum exp z), shifted by the maximum. */
static double log_sum_exp(const double *z, int32_t classes) {
    double top = z[0];
    for (int32_t k = 1; k < classes; k++) top = fmax(top, z[k]);
    double sum = exp(z[0] - top);
    for (int32_t k = 1; k < classes; k++) sum += exp(z[k] - top);
    return top + log(sum);
}

static bool label_exists(double label, int32_t classes) {
    return label >= 0 && label < classes && label == floor(label);
}

static double image_loss(const rg_ref *ref, const double *z, int32_t classes, double label) {
    double loss = 0, all = log_sum_exp(z, classes);
    if (!label_exists(label, classes)) return NAN;
    for (int32_t k = 0; k < classes; k++) {
        double share = target(ref, classes, label, k);
        if (share != 0.0) loss += share * (all - z[k]);
    }
    return loss;
}

/* The first maximum, as torch.argmax. */
static int32_t best_class(const double *z, int32_t classes) {
    int32_t best = 0;
    for (int32_t k = 1; k < classes; k++) {
        if (rg_ref_beats(z[k], z[best])) best = k;
    }
    return best;
}

rg_status rg_ref_loss(const rg_ref *ref) {
    const rg_tensor *logits = &ref->in[0];
    const double *label = ref->in[1].data;
    int32_t classes = logits->dim[3];
    double loss = 0, correct = 0;
    for (int32_t n = 0; n < ref->live; n++) {
        const double *z = logits->data + rg_tensor_at(logits, n, 0, 0);
        loss += image_loss(ref, z, classes, label[n]);
        correct += best_class(z, classes) == label[n];
    }
    *ref->out[0].data = loss / ref->live;
    *ref->out[1].data = correct;
    return RG_OK;
}

/* (softmax - target) / live; images beyond the live ones have no part in the loss. */
rg_status rg_ref_loss_grad(const rg_ref *ref) {
    const rg_tensor *logits = &ref->in[0];
    const double *label = ref->in[1].data;
    int32_t classes = logits->dim[3];
    for (int32_t n = 0; n < logits->dim[0]; n++) {
        size_t at = rg_tensor_at(logits, n, 0, 0);
        const double *z = logits->data + at;
        double all = log_sum_exp(z, classes);
        for (int32_t k = 0; k < classes; k++) {
            double part = exp(z[k] - all) - target(ref, classes, label[n], k);
            if (!label_exists(label[n], classes)) part = NAN;
            ref->out[0].data[at + (size_t)k] = n < ref->live ? part / ref->live : 0.0;
        }
    }
    return RG_OK;
}
