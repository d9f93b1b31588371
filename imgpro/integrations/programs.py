"""All programs that can be connected, in the order in which they are shown."""

from typing import Final

from imgpro.integrations import lines, scripts, uploaders
from imgpro.integrations.target import Program

PROGRAMS: Final = (
    Program(
        name="sharex",
        title="ShareX",
        group="Windows",
        about="Screenshots and recordings on Windows.",
        steps=(
            "Download {file} and double-click it.",
            "ShareX asks whether to use it as the active uploader. Say yes.",
            "Take a screenshot. The link is copied.",
        ),
        pieces=uploaders.sharex,
    ),
    Program(
        name="flameshot",
        title="Flameshot",
        group="Linux",
        about="Screenshots with arrows and text.",
        steps=(
            "Download {file} and make it a command with the line below.",
            "In the keyboard settings of your desktop, add a shortcut for ~/.local/bin/{file}.",
            "Press it, choose a part of the screen, and confirm. The link is copied.",
        ),
        pieces=scripts.flameshot,
    ),
    Program(
        name="ksnip",
        title="ksnip",
        group="Linux",
        about="Screenshots with a built-in editor.",
        steps=(
            "Download {file} and make it a command with the line below.",
            "In ksnip's settings under Uploader, choose Script uploader, this file, and the result filter below.",
            "Take a screenshot and choose Upload. The link is copied.",
        ),
        pieces=scripts.ksnip,
    ),
    Program(
        name="spectacle",
        title="Spectacle",
        group="Linux",
        about="The screenshots of KDE Plasma.",
        steps=(
            "Download {file} and make it a command with the line below.",
            "In System Settings under Keyboard, Shortcuts, add a command: ~/.local/bin/{file}.",
            "Press its shortcut and choose a part of the screen. The link is copied.",
        ),
        pieces=scripts.spectacle,
    ),
    Program(
        name="grim",
        title="grim and slurp",
        group="Linux",
        about="Screenshots under sway, Hyprland and other Wayland desktops.",
        steps=(
            "Download {file} and make it a command with the line below.",
            "Bind ~/.local/bin/{file} to a key in the configuration of your desktop.",
            "Press it and draw a rectangle. The link is copied.",
        ),
        pieces=scripts.grim,
    ),
    Program(
        name="upic",
        title="uPic",
        group="macOS",
        about="Uploads from the menu bar of a Mac.",
        steps=(
            "Download {file}.",
            "In uPic's preferences under Host, choose Import, this file, and merge.",
            "Make it the default host and drop a picture on the icon in the menu bar.",
        ),
        pieces=uploaders.upic,
    ),
    Program(
        name="picgo",
        title="PicGo",
        group="Any computer",
        about="Uploads by drag, paste and shortcut, for many editors.",
        steps=(
            "In PicGo under Plugins, install web-uploader.",
            "Open its settings and paste the values below.",
            "Make it the default uploader and upload a picture.",
        ),
        pieces=uploaders.picgo,
    ),
    Program(
        name="piclist",
        title="PicList",
        group="Any computer",
        about="PicGo with an album and cloud storage.",
        steps=(
            "In PicList under Uploaders, add one of the two below.",
            "Paste its values and leave the others empty.",
            "Make it the default uploader and upload a picture.",
        ),
        pieces=uploaders.piclist,
    ),
    Program(
        name="shortcut",
        title="iPhone and iPad",
        group="Phone",
        about="A shortcut in the share sheet.",
        steps=(
            "Scan the code with the phone's camera. The page that opens has all this, to copy.",
            "In the Shortcuts app, make a shortcut of the four actions below and turn on Show in Share Sheet.",
            "Share a picture and choose the shortcut. The link is copied.",
        ),
        pieces=lines.shortcut,
        on_phone=True,
    ),
    Program(
        name="obsidian",
        title="Obsidian",
        group="Editors",
        about="Pictures that are pasted into notes, on computers and phones.",
        steps=(
            "Install the community plugin Image auto upload and choose PicGo(app) as its uploader.",
            "Paste both addresses below and turn on Remote server mode.",
            "Paste a picture into a note. It becomes a link.",
        ),
        pieces=uploaders.obsidian,
        on_phone=True,
    ),
    Program(
        name="typora",
        title="Typora",
        group="Editors",
        about="Pictures in Markdown, on Linux and macOS.",
        steps=(
            "Download {file} and make it a command with the line below.",
            "In Typora's preferences under Image, choose Custom Command as uploader and paste the command.",
            "Choose Test Uploader there, or paste a picture into a text.",
        ),
        pieces=scripts.typora,
    ),
    Program(
        name="curl",
        title="curl",
        group="Terminal and assistants",
        about="One line for terminals and scripts.",
        steps=(
            "Paste the line into a terminal, with a file of yours.",
            "To have it as a command, put the function into your shell's start file.",
            "The link is printed.",
        ),
        pieces=lines.curl,
    ),
    Program(
        name="mcp",
        title="MCP",
        group="Terminal and assistants",
        about="Editors and assistants that speak the Model Context Protocol.",
        steps=(
            "Choose your client below and paste its line, or put its lines into its configuration.",
            "Start the client again if it was running.",
            "Ask it to upload a picture. With this key it can only do that.",
        ),
        pieces=lines.mcp,
    ),
)

BY_NAME: Final = {program.name: program for program in PROGRAMS}
