// The links of what was shared: they select themselves, and one button copies them all.

import { copyButtons } from "./copy.js";

copyButtons();
