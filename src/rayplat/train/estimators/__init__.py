"""Models that are estimators of a library: scikit-learn, XGBoost, LightGBM."""
