"""One stage: data, model, learner, phases, checkpoint, prediction. The only part that imports torch and fastai."""
