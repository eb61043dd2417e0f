"""The rollout: roles and weights of the arms, the steps that change them, and the routes that follow."""
