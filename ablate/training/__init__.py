"""One stage: data, model, learner, phases, checkpoint, prediction, on torch and fastai."""
