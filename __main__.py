"""The secrets that this program rotates.

Bump a counter (`pulumi config set --path 'rotations.FLY_API_TOKEN' 2`), look (`pulumi preview`), rotate (`pulumi up`).
"""

from components import secret_map
from components.rotation import load_settings, rotate

settings = load_settings()

rotate(
    settings,
    [
        secret_map.fly_api_token(settings),
        secret_map.neon_api_key(settings),
        secret_map.database_url(settings),
        secret_map.tenant_redis_url(settings),
        secret_map.secrets_encryption_key(settings),
        secret_map.resend_api_key(settings),
        secret_map.resend_from_email(settings),
        secret_map.stripe_api_key(settings),
        secret_map.stripe_webhook_secret(settings),
    ],
    not_managed=secret_map.NOT_MANAGED,
)
