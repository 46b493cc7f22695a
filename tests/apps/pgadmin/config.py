"""pgAdmin's settings for this machine; those for the gateway stand at the end (CONFIG_DISTRO_FILE_PATH names this file)."""

import os

DATA_DIR = os.environ["PGADMIN_DATA"]
SERVER_MODE = True
MASTER_PASSWORD_REQUIRED = False
UPGRADE_CHECK_ENABLED = False
ENABLE_PSQL = True
SHOW_GRAVATAR_IMAGE = False  # nothing is fetched from elsewhere
DEFAULT_SERVER = "127.0.0.1"
DEFAULT_BINARY_PATHS = {"pg": os.environ["POSTGRES_PROGRAMS"]}

if os.environ.get("BEHIND_PROXY") == "1":
    # Cookies over TLS only. PROXY_X_FOR_COUNT and PROXY_X_PROTO_COUNT are 1 by themselves, which is right: one
    # gateway, which removes what clients say. It sends no X-Forwarded-Port: the port stands in Host.
    SESSION_COOKIE_SECURE = True
    PROXY_X_PORT_COUNT = 0
    ALLOWED_HOSTS = ["acme.localhost"]
