"""The engine is built once, safely, and its command plugin behaves like the official one."""
