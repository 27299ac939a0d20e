"""Logistic regression on pooled statistics: the linear router and the SER probe."""

import numpy as np

from emoq_plugin.learning.weighting import rows_of_classes


class PooledClassifier:
    """Multinomial logistic regression that learns from class shares.

    A clip with shares over classes counts in each class by its share (its cross-entropy
    loss); classes have equal total weight.

    Parameters
    ----------
    C : float, default=0.01
        Inverse regularisation strength, fixed before any test data was seen.
    max_iter : int, default=500
    route_scale : float, default=10.0
        Routes are multiplied by it, beside pooled features of unit variance: their few
        weights are hardly regularised, as if they were intercepts.

    Examples
    --------
    >>> probe = PooledClassifier(C=1.0).fit(np.array([[-1.0], [1.0]]), np.eye(2))
    >>> probe.predict_proba(np.array([[3.0]])).argmax()
    np.int64(1)
    """

    def __init__(
        self, *, C: float = 0.01, max_iter: int = 500, route_scale: float = 10.0
    ):
        self.C = C
        self.max_iter = max_iter
        self.route_scale = route_scale

    def fit(
        self,
        pooled: np.ndarray,
        targets: np.ndarray,
        routes: np.ndarray | None = None,
        *,
        emphasis: np.ndarray | float = 1.0,
    ) -> "PooledClassifier":
        """Learn.

        Parameters
        ----------
        pooled : (N, F) array
        targets : (N, C) array
            Class shares, rows sum to one.
        routes : (N, E) array, optional
            Weights of the experts that encoded each clip, a part of its stream.
        emphasis : (F,) array or float, default=1.0
            Deviation of the pooled features after they are standardised.

        Raises
        ------
        ValueError
            If a class has no mass.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        mass = targets.sum(axis=0)  # (C,)
        if (mass == 0).any():
            raise ValueError(
                f"class {int((mass == 0).argmax())} has no training clip for the probe"
            )
        clip, label, weight = rows_of_classes(targets)
        self.scaler_ = StandardScaler().fit(pooled)
        self.scaler_.scale_ /= emphasis
        self.model_ = LogisticRegression(C=self.C, max_iter=self.max_iter)
        self.model_.fit(self.inputs(pooled, routes)[clip], label, weight)
        return self

    def predict_proba(
        self, pooled: np.ndarray, routes: np.ndarray | None = None
    ) -> np.ndarray:
        """Return posteriors (N, C)."""
        return self.model_.predict_proba(self.inputs(pooled, routes))

    def inputs(self, pooled: np.ndarray, routes: np.ndarray | None) -> np.ndarray:
        """Return what the regression sees: standardised features, scaled routes."""
        scaled = self.scaler_.transform(pooled)
        if routes is None:
            return scaled
        return np.concatenate([scaled, self.route_scale * routes], axis=1)

    def parameters(self) -> dict[str, np.ndarray]:
        """Return ``mean``, ``scale`` (F,), ``weight`` (C, F + E) and ``bias`` (C,).

        The last E columns are for the weights of the experts of a route (none where
        the classifier was fitted without). Two classes have one row in scikit-learn;
        here they have two.
        """
        weight, bias = self.model_.coef_.copy(), self.model_.intercept_
        if len(weight) == 1:
            weight, bias = np.concatenate([-weight, weight]), np.append(-bias, bias)
        scaler = self.scaler_
        weight[:, len(scaler.mean_) :] *= self.route_scale
        return {
            "mean": scaler.mean_,
            "scale": scaler.scale_,
            "weight": weight,
            "bias": bias,
        }
