"""Pure functions of logits: adversarial losses and penalties, all per sample [N]."""
