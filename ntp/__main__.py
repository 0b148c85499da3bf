import sys

from ntp.cli import main

sys.exit(main())
