"""The operator credentials that Stripe's secrets need."""

from components.operator_credentials import OperatorCredential

STRIPE = OperatorCredential(
    description="a Stripe key of the control plane's account: a secret key, or a restricted one that may write webhook endpoints",
    variables=("STRIPE_API_KEY",),
    config_key="stripeApiKey",
)
CONTROL_PLANE_SESSION = OperatorCredential(
    description="the session cookie (`mcp_session`) of a control plane user who may buy a plan",
    variables=("CP_SESSION",),
    config_key="controlPlaneSession",
)
